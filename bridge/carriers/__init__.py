"""How payloads travel to functions and back: connections, credentials, and a carrier for each kind of target."""
