"""Turn-level credit: which turns need the teacher, how much, and at what scale.

labels        skip, weak, strong: the words of a judge
turns         what the environment said about a turn, and whether it failed outright
judges        rule, oracle, token agreement: labels without another model
teacher_judge the teacher, asked in words
weights       labels and confidence to one weight a token, and the normaliser
intervention  all of it as one setting, ``recipe.intervention``, that any taught recipe takes
compare       how well judges agree with each other
"""
