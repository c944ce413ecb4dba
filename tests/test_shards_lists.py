"""Lists of URIs: texts and tables as people, spreadsheets and pandas write them."""

import codecs
import csv
import gzip
import io
import string

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import photographs
from transforms.shards.lists import FORMAT, list_format
from transforms.shards.shard import ShardError


def listed(data, extension=".txt", column=None):
    data = data.encode() if isinstance(data, str) else data
    return list(list_format(column).targets(io.BytesIO(data), extension))


def uris(data, extension=".txt", column=None):
    found = listed(data, extension, column)
    assert not [one.trouble for one in found if one.trouble]
    return [one.uri for one in found]


def troubles(data, extension=".txt"):
    return {one.line: one.trouble for one in listed(data, extension) if one.trouble}


# -- texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        "a.jpg\ngs://b/c d.png",
        "a.jpg\r\ngs://b/c d.png\r\n",
        codecs.BOM_UTF8 + b"a.jpg\ngs://b/c d.png\n",
        "\n# photographs\n  # more\na.jpg\n \t\n\ngs://b/c d.png\n#",
    ],
)
def test_a_text_is_a_path_a_line(data):
    assert uris(data) == ["a.jpg", "gs://b/c d.png"]


def test_paths_stay_as_they_are_written():
    paths = [" a.jpg ", "./#b.jpg", 'c"d".jpg', "e,f;g.jpg", "Zürich/写真.jpg", "../h.jpg", "path"]
    assert uris("\n".join(paths)) == paths
    assert uris("a.jpg\nb.jpg\na.jpg") == ["a.jpg", "b.jpg", "a.jpg"]
    assert uris("path,x\n", ".lst") == ["path,x"]


def test_lines_are_numbered_as_an_editor_does():
    data = "# one\n\na.jpg\n\nhttp://x/b.jpg\nc.jpg"
    assert [(one.uri, one.line) for one in listed(data)] == [
        ("a.jpg", 3),
        ("http://x/b.jpg", 5),
        ("c.jpg", 6),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"http://x/a.jpg", "cannot be read over http://: download it, and list the copy"),
        (b"HTTPS://x/a.jpg", "cannot be read over HTTPS://"),
        (b"ftp://x/a.jpg", "cannot be read over ftp://"),
        (b"caf\xe9.jpg", "is not UTF-8: save the list as UTF-8"),
        (b"a\0.jpg", r"names a file with the control character '\x00'"),
        (b"a\r.jpg", r"names a file with the control character '\r'"),
        (b"a" * 200_000, "is longer than 131,072 bytes"),
        (b"a" * 400_000, "is longer than 131,072 bytes"),
    ],
)
def test_a_line_that_cannot_be_taken_is_trouble_and_the_others_go_on(line, reason):
    data = b"a.jpg\n" * 200 + line + b"\nb.jpg"
    found = listed(data)
    assert [one.trouble is None for one in found] == [True] * 200 + [False, True]
    assert found[200].trouble.startswith(f"line 201 of the list {reason}")
    assert (found[201].uri, found[201].line) == ("b.jpg", 202)


# -- tables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "extension"),
    [
        ("path,label\na.jpg,1\n", ".csv"),
        ("label,path\r\n1,a.jpg\r\n", ".csv"),
        ("label;path\n1;a.jpg\n", ".csv"),
        ("label\tpath\n1\ta.jpg", ".csv"),
        ("label\tpath\n1\ta.jpg", ".TSV"),
        (codecs.BOM_UTF8 + b'"path","label"\n"a.jpg","1"\n', ".csv"),
        ("\n\npath,label\n\n,\na.jpg,1\n , \n", ".csv"),
    ],
)
def test_a_table_has_its_paths_in_a_column_and_the_others_beside(data, extension):
    [one] = listed(data, extension)
    assert (one.uri, one.fields, one.trouble) == ("a.jpg", {"label": "1"}, None)


@pytest.mark.parametrize(
    ("header", "column", "found"),
    [
        ("filename,file,path,url,uri", None, "5"),
        ("filename,file,path,url", None, "4"),
        ("filename,file, Path ", None, "3"),
        ("filename,FILE", None, "2"),
        ("x,filename", None, "2"),
        ("path,Image URL", "image url", "2"),
    ],
)
def test_the_column_of_paths_is_found_by_its_name(header, column, found):
    names = header.split(",")
    row = ",".join(str(index + 1) for index in range(len(names)))
    [one] = listed(f"{header}\n{row}\n", ".csv", column)
    assert one.uri == found
    assert list(one.fields) == [name for index, name in enumerate(names) if str(index + 1) != found]


def test_tables_by_pandas_come_out_as_they_went_in():
    captions = ['he said "no", and left', "two\nlines", "", "écoute; voilà", "tab\there"]
    table = pandas.DataFrame({"caption": captions, "path": [f"{i}, {i}.jpg" for i in range(5)]})
    for extension, separator in ((".csv", ","), (".csv", ";"), (".csv", "\t"), (".tsv", "\t")):
        found = listed(table.to_csv(index=False, sep=separator), extension)
        assert [one.uri for one in found] == list(table["path"])
        assert [one.fields for one in found] == [{"caption": caption} for caption in captions]
        assert [one.line for one in found] == [2, 3, 5, 6, 7]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.jpg", "has 1 cells, and the header 2"),
        ("a.jpg,1,2", "has 3 cells, and the header 2"),
        (",1", "names no file"),
        ('"a.jpg,1', "is no row of a table: unexpected end of data"),
        ('"a"b.jpg,1', "is no row of a table: ',' expected after '\"'"),
        ("a.jpg," + "x" * 140_000, "is longer than 131,072 bytes"),
        ("https://a.jpg,1", "cannot be read over https://"),
        ('"a\nb",1', r"names a file with the control character '\n'"),
    ],
)
def test_a_row_that_cannot_be_taken_is_trouble_and_the_others_go_on(row, reason):
    rows = ["path,label", "x.jpg,1", row, "y.jpg,2", "z.jpg,3"]
    found = listed("\n".join(rows), ".csv")
    assert [one.uri for one in found if not one.trouble] == ["x.jpg", "y.jpg", "z.jpg"]
    [trouble] = [one for one in found if one.trouble]
    assert trouble.line == 3
    assert trouble.trouble.startswith(f"line 3 of the list {reason}")


def test_a_quote_that_is_never_closed_takes_no_other_row_along():
    rows = [f"{index}.jpg,{'x' * 50}" for index in range(10_000)]
    rows[17] = '"17.jpg,stray'
    rows[9000] = '9000.jpg,"stray'
    found = listed("\n".join(["path,caption", *rows]), ".csv")
    assert [one.line for one in found] == list(range(2, 10_002))
    assert [one.line for one in found if one.trouble] == [19, 9002]


def test_bytes_that_are_no_utf8_in_another_column_are_trouble_too():
    data = "path,place\na.jpg,Zürich\nb.jpg,Bern\n".encode("latin-1")
    found = listed(data, ".csv")
    assert found[0].trouble == "line 2 of the list is not UTF-8: save the list as UTF-8"
    assert (found[1].uri, found[1].trouble) == ("b.jpg", None)


# -- what is no list -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "extension", "reason"),
    [
        (photographs.saved(photographs.small(), "PNG"), ".txt", "not a list of images: it begins"),
        (photographs.saved(photographs.small(), "JPEG"), ".csv", "not a list of images"),
        (gzip.compress(b"a.jpg\n" * 100, mtime=0), ".txt", "not a list of images"),
        ("a.jpg\n".encode("utf-16"), ".txt", "in UTF-16: save it as UTF-8"),
        ("a.jpg\n".encode("utf-16-le"), ".txt", "not a list of images"),
        ("a.jpg\rb.jpg\r", ".txt", "carriage returns alone"),
        ("image,label\na.jpg,1\n", ".csv", r"uri, url, path, file or filename: it begins with 'im"),
        ("a.jpg\nb.jpg\n", ".csv", "a list without a column"),
        ("path,label\n", ".tsv", "a list without a column"),
        ('"path,label\n', ".csv", "a list without a column"),
        ("path,label,label\n", ".csv", "more than one column 'label'"),
        ("x" * 200_000, ".csv", "line 1 is longer than"),
    ],
)
def test_what_is_no_list_is_refused(data, extension, reason):
    with pytest.raises(ShardError, match=reason):
        listed(data, extension)


def test_a_column_that_is_not_there_is_refused():
    with pytest.raises(ShardError, match="a list without a column scan: it begins with 'path,x"):
        listed("path,x\n", ".csv", "scan")


@pytest.mark.parametrize("extension", [".txt", ".csv", ".tsv"])
def test_nothing_is_listed_of_an_empty_file(extension):
    assert listed(b"", extension) == []
    assert listed(b"\n\r\n", extension) == []


def test_only_what_may_be_a_text_looks_right():
    assert FORMAT.looks_right(b"")
    assert FORMAT.looks_right("Zürich\t.jpg\r\n".encode()[:3])
    assert not FORMAT.looks_right(b"PK\x03\x04")
    assert not FORMAT.looks_right("a".encode("utf-16"))
    assert FORMAT.extensions == (".txt", ".csv", ".tsv")


# -- streams, and all else -------------------------------------------------------------------------


@pytest.mark.parametrize("extension", [".txt", ".csv"])
def test_a_gzip_stream_is_read_as_far_as_it_goes(extension):
    lines = [f"{index * 7919 % 100_003}.jpg" for index in range(20_000)]
    packed = gzip.compress("\n".join(["path", *lines]).encode())
    with gzip.open(io.BytesIO(packed)) as file:
        whole = [one.uri for one in FORMAT.targets(file, extension)]
    assert whole[-20_000:] == lines
    with gzip.open(io.BytesIO(packed[: len(packed) // 2])) as file:
        *found, last = FORMAT.targets(file, extension)
    assert [one.uri for one in found] == whole[: len(found)]
    assert len(found) > 1000
    assert last.trouble.startswith(f"line {found[-1].line + 1} of the list and all behind it")
    with gzip.open(io.BytesIO(packed[:12])) as file, pytest.raises(ShardError, match="the gzip"):
        list(FORMAT.targets(file, extension))


def test_a_list_is_read_line_by_line():
    class Endless(io.BytesIO):
        def readline(self, size=-1):
            return super().readline() or b"again.jpg,1\n"

    found = FORMAT.targets(Endless(b"path,label\n0.jpg,0\n"), ".csv")
    assert [next(found).uri for _ in range(3)] == ["0.jpg", "again.jpg", "again.jpg"]


cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(cells, st.text(string.printable))), st.sampled_from(",;\t"))
def test_every_table_that_the_csv_module_writes_is_read_back(rows, delimiter):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([("path", "note"), *rows])
    found = listed(out.getvalue(), ".csv")
    refused = ("http://", "https://", "ftp://", "ftps://")
    assert [(one.uri, one.fields["note"]) for one in found] == rows
    assert all((one.trouble is None) != one.uri.lower().startswith(refused) for one in found)


@given(st.binary(max_size=300), st.sampled_from([".txt", ".csv", ".tsv"]))
def test_no_bytes_lead_to_anything_but_a_shard_error(data, extension):
    for start in (b"", b"path,label\n", b'path\tlabel\n"'):
        try:
            found = listed(start + data, extension)
        except ShardError:
            continue
        assert [one.line for one in found] == sorted({one.line for one in found})
