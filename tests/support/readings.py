"""What a benchmark class makes of a record of the worker's."""


def read(suite, record, *params):
    """The numbers of the methods of `suite`, by name, of a record of the cell of `params`."""
    one = suite()
    one.setup({"header": {"status": "ok"}, one.cell(*params).name: {"status": "ok"} | record}, *params)
    return {name[6:]: getattr(one, name)({}, *params) for name in dir(one) if name.startswith("track_")}
