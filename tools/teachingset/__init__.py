"""The generator of the teaching set: teaching-hotpot and teaching-math, frozen as data in the
package.

`build` writes the files, `factual` and `maths` hold the templates, `drawing` selects questions, and
`policies` are the answers without search or computation that must stay at chance.
"""
