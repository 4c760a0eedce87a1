"""Measuring this machine: prunectl's training and scheduling against plain loops that do the same work.

Contenders run in processes of their own that stay warm and take turns, a round each, so that whatever else the machine
does meets them alike. Reported are medians and, of the ratios within rounds, the geometric mean with its 95 %
interval. Images are random, never zeros: those would flatter whoever is measured.
"""
