"""Configuration: a YAML file and BRIDGE_ variables in, checked frozen values out, all problems reported together."""
