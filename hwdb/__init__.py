"""The central side: what the fleet says goes into SQL, and what it is to be comes out."""
