"""What all tests share."""

from hypothesis import settings

# An example's wall time says how busy the machine is; a test that hangs is ended by pytest-timeout.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")
