"""What a candidate must show before anybody talks to it: language (G0), and that it is not less liked (G1)."""
