"""Messages to JSON and back without stopping other calls: what is cheap is done at once, all else in processes of their own."""
