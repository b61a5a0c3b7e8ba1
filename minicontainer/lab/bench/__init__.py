"""The benchmark: how long starts take, side by side with the neighbours of the field.

Layer: lab (imports the engine; the engine never imports it). Inside, imports go down:

    __main__     ./lab bench: options, the order of things, what is printed and written
    picture      results as bars (matplotlib)        report     results as a table, for a terminal and for Markdown
    rounds       who is measured, when, in which order
    entrants     how each is called, and why one is absent
    docker       a Docker daemon of our own          guest      the virtual machine
    scene        an image, a root file system and bundles in a temporary folder
    clock        our end of the stopwatch            stopwatch  a process that starts and times commands
    results      the numbers, their statistics, JSON host       the machine that they are of
    program      the program that tells when it began

What is measured: from the call (a command's posix_spawn, a method's first line) to the first instruction of the
process in the container, and to the call's end. What makes it honest:

- the same program in the same root file system for all; its first act is to read the clock (program.py)
- commands are started by the same smprocess (stopwatch.py), whose own cost is a row too: a process without walls
- runc and crun get the config.json that our own container has
- in every round each comes once, in random order, after a pause in which others' clean-up can end; the first rounds
  don't count; ratios are taken round by round, between neighbours in time, and their median is given
- who can't be measured is listed with the reason, and what differs between two rows is said beside them
"""
