"""What people said, as one reward a reply with a confidence; what in it is personal and never learnt."""
