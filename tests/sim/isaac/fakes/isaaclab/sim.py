from isaaclab import THREE, Cfg


class SimulationCfg(Cfg):
    pass


if not THREE:

    class PhysxCfg(Cfg):
        pass


class RigidBodyMaterialCfg(Cfg):
    pass


class GroundPlaneCfg(Cfg):
    pass


class UrdfFileCfg(Cfg):
    pass


class CuboidCfg(Cfg):
    pass


class RigidBodyPropertiesCfg(Cfg):
    pass


class ArticulationRootPropertiesCfg(Cfg):
    pass


class MassPropertiesCfg(Cfg):
    pass


class CollisionPropertiesCfg(Cfg):
    pass


class UrdfConverterCfg(Cfg):
    class JointDriveCfg(Cfg):
        class PDGainsCfg(Cfg):
            pass


class SimulationContext:
    made = None

    def __init__(self, cfg):
        self.cfg, self.device, self.scene = cfg, "cpu", None
        assert (cfg.physics if THREE else cfg.physx).enable_enhanced_determinism
        SimulationContext.made = self

    def reset(self):
        self.scene.start()

    def step(self, *, render):
        assert not render
        self.scene.simulate()
