"""The call console's side in a process that serves calls: it describes methods and makes calls for a person."""
