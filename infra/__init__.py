"""The programs that provision, deploy and run the bundle."""
