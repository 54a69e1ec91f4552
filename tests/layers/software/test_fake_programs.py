from fake_programs import CLASSES, NETS, images, module, nn, reference


def test_the_networks_differ_by_image_and_their_batch_norms_matter():
    for net in NETS:
        found = reference(net)
        assert found.shape == (len(images()), CLASSES)
        assert found.std(axis=0).min() > 0.01
    norms = [m for m in module("residual").modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(float(norm.running_mean.abs().max()) > 0.01 for norm in norms)
