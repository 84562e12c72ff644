"""Pulumi programs that rent hosts. None in this version: `apply` refuses `hosts: {from: stack}` and says so."""
