"""The credentials that the bridge presents to AWS: where they come from, roles, and signing with them."""
