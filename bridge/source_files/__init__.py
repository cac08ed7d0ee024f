"""What in a function's folder is source: what `.gitignore` leaves out, what is generated, and what never counts."""
