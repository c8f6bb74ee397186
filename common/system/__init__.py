"""What a program needs of the operating system.

- `errors`: a mistake is told in one sentence.
- `streams`: a notebook, or standard output and standard error, also where they are closed, full or missing.
- `files`: a file is written whole or not at all.
- `locks`: one run in a folder at a time.
- `environment`: the variables that a lesson's own process gets.
- `child`: a run ends with the program that started it.
- `command_lines`: the options of course.py's commands.
"""
