"""What goes wrong in the lab, as one line that says what to install, free or correct."""


class LabError(Exception):
    """The lab cannot do this; the message is one line."""
