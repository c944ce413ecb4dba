"""What goes to a terminal or a log: names and messages from anywhere, without their commands.

Neither Beam nor TensorFlow is imported here.
"""

import logging

from transforms.names import printable


class Formatter(logging.Formatter):
    """Begin each message with the name of the program, and each further line with a blank.

    So no name with a line feed in it can pass for a message, and none with an escape sequence can
    rewrite a screen.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format one message."""
        lines = super().format(record).split("\n")
        return "heliograph: " + "\n  ".join(map(printable, lines))
