"""For teachers: the version of the lab to hand out, and checks of what is handed in."""
