"""The machines that a case runs on: `evaluated` (the spec), `engine` (the built target), `unicorn`
(a peer).
"""
