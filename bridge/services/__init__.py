"""Built-in services: health, reflection, and the descriptors that reflection answers from. No function is woken by a
call to them.
"""
