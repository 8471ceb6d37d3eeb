"""Tests that need a server or a machine which the default suite does not have; each says by which command it is run."""
