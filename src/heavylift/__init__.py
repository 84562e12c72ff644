"""From the name of a large model to a production endpoint on hosts that you own or rent."""
