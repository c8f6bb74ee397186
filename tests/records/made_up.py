"""A step's record with a few runs, made up for the tests of this room."""


def run(seed, protocol="held-out", correct=(9_900, 9_930, 9_940, 9_950)):
    rows = [
        {
            "epoch": epoch,
            "lr": 0.1,
            "train_loss": 0.1,
            "train_correct": 59_000,
            "train_total": 60_000,
            "test_loss": 0.02,
            "test_correct": count,
            "test_total": 10_000,
            "seconds": 1.0,
        }
        for epoch, count in enumerate(correct, 1)
    ]
    return {"seed": seed, "protocol": protocol, "seconds": 4.0, "history": rows}


def record(*runs):
    return {"step": "S7/block3", "parameters": 7_904, "data": {"name": "mnist", "train": 60_000}, "runs": list(runs)}
