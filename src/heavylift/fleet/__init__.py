"""Which hosts there are and how they are reached: the inventory file and SSH."""
