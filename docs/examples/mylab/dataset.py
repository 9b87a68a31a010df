"""A dataset whose labels are in the names of its files."""

import pandas as pd

from mtmsa_lightning import FaceDataModule, FaceTable, ReadReport, make_frame


class MyFaces(FaceDataModule):
    """Faces in files that are named <age>_<subject>_<number>.jpg."""

    name = "myfaces"
    protocols = ("random", "subject_exclusive")

    def read(self) -> FaceTable:
        """Return the table of faces; files without an age are skipped and reported."""
        report = ReadReport(str(self.root))
        rows = []
        for number, file in enumerate(sorted(self.root.glob("*.jpg")), 1):
            report.read += 1
            age, _, rest = file.stem.partition("_")
            if not age.isdecimal():
                report.drop(number, file.name, "the name does not begin with an age")
                continue
            face = {"id": file.name, "path": file.name, "subject": rest.partition("_")[0]}
            rows.append(face | {"age_low": int(age), "age_high": int(age)})
        report.finish(self.strict)
        frame = make_frame(pd.DataFrame(rows), self.name)
        return FaceTable(frame, self.root, self.name, "age in the name of the file", (), report)
