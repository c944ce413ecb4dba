import keras
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000
from skimage.metrics import structural_similarity

from models.losses import LOSSES, LossError, Rebalanced, parse_loss
from models.networks.colorizers import AnnealedMean, gamut_bins
from transforms import colour


@pytest.fixture(scope="module")
def pair(photographs) -> tuple[np.ndarray, np.ndarray]:
    clean = np.stack([photo[:96, :80] for photo in photographs.values()]).astype(np.float32) / 255
    noise = np.random.default_rng(0).normal(0, 0.1, clean.shape)
    return clean, (clean + noise).clip(0, 1).astype(np.float32)


def test_pixel_losses_are_their_formulas(pair):
    clean, noisy = pair
    difference = noisy.astype(np.float64) - clean
    expected = {
        "mse": np.mean(difference**2),
        "l1": np.mean(np.abs(difference)),
        "charbonnier": np.mean(np.sqrt(difference**2 + 1e-6)),
        "huber": np.mean(np.sqrt((difference**2).sum(-1) + 0.04) - 0.2),
    }
    for name, value in expected.items():
        assert float(LOSSES[name](clean, noisy)) == pytest.approx(value, rel=1e-5)


def test_the_ssim_loss_is_one_less_what_scikit_image_gives(pair):
    clean, noisy = pair
    expected = np.mean(
        [
            structural_similarity(
                one,
                other,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1.0,
                channel_axis=-1,
            )
            for one, other in zip(clean, noisy, strict=True)
        ]
    )
    assert float(LOSSES["ssim"](clean, noisy)) == pytest.approx(1 - expected, abs=2e-4)
    assert float(LOSSES["ssim"](clean, clean)) == pytest.approx(0, abs=1e-6)


def test_the_chroma_loss_is_near_ciede2000(photographs):
    lab = colour.lab(photographs["coffee"].astype(np.float32) / 255).astype(np.float64)
    for scale in (0.0, 0.6, 1.3):
        faded = lab * (1, scale, scale)
        exact = deltaE_ciede2000(lab, faded).mean()
        loss = LOSSES["ciede2000"](lab[None, ..., 1:] / 50, faded[None, ..., 1:] / 50)
        assert float(loss) == pytest.approx(exact, rel=0.15)


def test_a_mix_weighs_its_parts(pair):
    clean, noisy = pair
    mixed = parse_loss("0.16*l1+0.84*ssim")(clean, noisy)
    parts = 0.16 * LOSSES["l1"](clean, noisy) + 0.84 * LOSSES["ssim"](clean, noisy)
    assert float(mixed) == pytest.approx(float(parts))


@pytest.mark.parametrize("text", ["l3", "", "l1+", "0*l1", "x*l1", "-1*l1", "nan*l1", "l1,ssim"])
def test_a_loss_that_is_none_is_refused_with_those_there_are(text):
    with pytest.raises(LossError, match="charbonnier"):
        parse_loss(text)


def test_every_loss_has_a_gradient_where_nothing_is_wrong(pair):
    tf = pytest.importorskip("tensorflow")
    clean = tf.constant(pair[0][..., :2])
    for name, loss in LOSSES.items():
        with tf.GradientTape() as tape:
            tape.watch(clean)
            value = loss(pair[0][..., :2], clean)
        assert np.isfinite(tape.gradient(value, clean)).all(), name


def test_bins_cover_what_srgb_holds():
    bins = gamut_bins()
    assert 200 < len(bins) < 320  # 313 in Zhang et al., of the grid's cells in and around it
    rgb = np.random.default_rng(0).random((1, 20_000, 3), np.float32)
    chroma = colour.lab(rgb)[0, :, None, 1:]
    nearest = np.sqrt(((chroma - bins) ** 2).sum(-1)).min(-1)
    assert nearest.max() < 10 / np.sqrt(2) + 2.5


def test_the_annealed_mean_is_between_mean_and_mode():
    bins = gamut_bins()
    chances = np.full((1, 1, 1, len(bins)), 1e-6)
    chances[..., 10], chances[..., 200] = 0.7, 0.3
    logits = np.log(chances).astype(np.float32)
    mean = (chances / chances.sum() @ bins)[0, 0, 0]

    def chroma(temperature):
        return np.asarray(AnnealedMean(temperature)(logits))[0, 0, 0] * 50

    np.testing.assert_allclose(chroma(1.0), mean, atol=0.1)
    np.testing.assert_allclose(chroma(0.02), bins[10], atol=0.1)
    apart = [np.linalg.norm(chroma(t) - bins[10]) for t in (0.02, 0.38, 1.0)]
    assert apart == sorted(apart)


def test_rebalancing_weighs_rare_colours_up_and_the_mean_stays_one():
    bins = gamut_bins()
    chroma = np.zeros((4, 32, 32, 2), np.float32)  # gray, but for a little of one strong colour
    chroma[0, :8, :8] = bins[3]
    counts = Rebalanced.count(bins, chroma)
    gray = int(np.abs(bins).sum(-1).argmin())
    assert counts[gray] == 4 * 32 * 32 - 64 + 1
    assert counts[3] == 65
    loss = Rebalanced(bins, counts)
    assert loss.weights[3] > 20 * loss.weights[gray]
    assert (counts / counts.sum() * loss.weights).sum() == pytest.approx(1, rel=1e-5)


def test_classification_is_best_where_the_logits_are_the_truth():
    bins = gamut_bins()
    counts = np.ones(len(bins), np.int64)
    loss = Rebalanced(bins, counts)
    truth = np.broadcast_to(bins[40] / 50, (1, 8, 8, 2)).astype(np.float32)
    logits = np.zeros((1, 2, 2, len(bins)), np.float32)
    uniform = float(loss(truth, logits))
    assert uniform == pytest.approx(np.log(len(bins)), rel=1e-4)
    logits[..., 40] = 6
    near = float(loss(truth, logits))
    wrong = float(loss(truth, np.roll(logits, 100, axis=-1)))
    assert near < uniform < wrong
    assert keras.ops.shape(logits)[1] * 4 == truth.shape[1]
