"""The classroom side: virtual machines to compare with, measuring, widgets, checks.

Layer: lab. It imports the engine; the engine never imports it. Importing this package alone imports nothing: Jupyter's
packages, which only some of its modules need, may be absent.
"""
