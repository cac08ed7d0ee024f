"""What runs functions in the local Lambda: processes, the Runtime API that they speak, their logs and files."""
