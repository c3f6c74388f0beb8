"""Drivers, one file each; robot/driver.py has their contract and their table."""
