"""What a job has done, for people: lines on a terminal, and a page that holds all of it."""

import apache_beam as beam

from pipeline.ledger import Ledger
from pipeline.options import PICTURES


class Report(beam.PTransform):
    """Write the report once the summary is there, on whatever runner there is.

    Args:
        output: the output folder.
        pictures: how many records of each kind are shown as pictures.
    """

    def __init__(self, output: str, pictures: int = PICTURES) -> None:
        super().__init__()
        self.output = output
        self.pictures = pictures

    def expand(self, summarised: beam.PCollection[int]) -> beam.PCollection[int]:
        """Wait for the one number that says that the summary is there, and give it on."""
        output, pictures = self.output, self.pictures

        def make(number: int) -> int:
            from pipeline.report import page  # whose libraries no other stage needs

            page.write(output, pictures)
            Ledger(output).close()  # what else is made of it is there already
            return number

        return summarised | beam.Map(make).with_output_types(int)
