"""Plots of a report: functions from numbers to a matplotlib ``Figure``, and the style to draw them in.

They have the width of one (3.5 inches) or two columns of a paper, texts of 8 points, colours that colour-
blind readers can distinguish (Okabe and Ito's; cividis for amounts), and show the number of faces.
"""
