"""`python -m throwaway NAME SHORT`: destroys the lab of these names, whatever there is of it."""

import sys

from throwaway.lab import Lab

Lab(*sys.argv[1:]).destroy()
