"""What a region-based detector is made of. Nothing here loops over anchors, boxes or images.

Boxes are x1, y1, x2, y2 in pixels of the input, as edges: the right and lower edge are exclusive.
"""
