"""The generator of the teaching set: teaching-hotpot and teaching-math, frozen as data in the
package.

`build` writes the files: passages from `encyclopedia`, which states the `facts`, and questions from
the templates of `factual`, which asks about `topics`, and of `maths`. `drawing` selects questions,
and `policies` are the answers without search or computation that must stay at chance.
"""
