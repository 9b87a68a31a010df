"""Parts of reading a table of faces: columns, ages, dates, classes and boxes."""
