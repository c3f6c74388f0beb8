"""The rules of screening: one idea a file, each rule with a name, a threshold in config.py, a finding and its evidence.

A rule is a generator of Noticed over one episode's Signals, and a row in transfer.screen.RULES; rules that compare
episodes with one another (dynamics.py, leakage.py) work on what they keep of each, not on the recordings themselves.
"""
