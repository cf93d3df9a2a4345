"""From a listening socket to a service's handler: a straight corridor, with the decision as its only door."""
