"""The documents: the parts of them that are made from the code, their links, their pictures.

python -m tests.documents             write the made parts of README.md and docs/ anew
python -m tests.documents.pictures    draw the pictures of README.md from a demo run
"""
