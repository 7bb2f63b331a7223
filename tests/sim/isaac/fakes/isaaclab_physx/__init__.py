from isaaclab import THREE

if not THREE:
    raise ModuleNotFoundError("No module named 'isaaclab_physx'", name="isaaclab_physx")
