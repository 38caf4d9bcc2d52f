"""The two losses against small computations of their own, and against diffusers' pipelines."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image

from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.image import flux, sdxl
from tourney_ray.evaluation.image.archive import Pair, read_pairs
from tourney_ray.evaluation.image.losses import FAMILIES, Losses, losses, plain_attention, prepare, read_captions
from tourney_ray.evaluation.image.pictures import DRAWS, PreparedPicture, noise_of, pixels_of
from tourney_ray.evaluation.image.pipeline import Pipeline
from tourney_ray.samples.pictures import make_pairs

BOTH = pytest.mark.parametrize("model_type", ["sdxl", "flux"])
SEED = b"\3" * 32


class Stage:
    """A pipeline with a prepared test set and its captions."""

    def __init__(self, pipeline: Pipeline, pairs: list[Pair]) -> None:
        self.pipeline = pipeline
        self.test = prepare(pipeline, pairs, SEED, 64)
        self.prompts = read_captions(pipeline, [picture.caption for picture in self.test])

    def losses(self, test: list[PreparedPicture] | None = None, metric: Any = "denoising", batch: int = 10) -> Losses:
        return losses(self.pipeline, self.test if test is None else test, self.prompts, metric, batch)


@pytest.fixture
def stage(pipelines: Callable[[str], Pipeline]) -> Callable[[str], Stage]:
    return lambda model_type: Stage(pipelines(model_type), make_pairs(8, 3))


@torch.no_grad()
def test_the_denoising_loss_of_sdxl_by_hand(stage) -> None:
    """One draw, from the noise schedule's own definition to the mean of the squares."""
    one = stage("sdxl")
    picture, prompt = one.test[1], one.prompts[one.test[1].caption]
    config = one.pipeline.scheduler.config
    roots = torch.linspace(config.beta_start**0.5, config.beta_end**0.5, 1000, dtype=torch.float64)
    kept = torch.cumprod(1 - roots**2, 0)
    step = int(picture.moments[4] * 1000)
    assert 400 <= step < 500
    noise = picture.noise[4:5]
    seen = math.sqrt(kept[step]) * picture.latents + math.sqrt(1 - kept[step]) * noise
    answer = one.pipeline.denoiser(
        seen,
        step,
        encoder_hidden_states=prompt.words,
        added_cond_kwargs={"text_embeds": prompt.whole, "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]])},
    ).sample
    expected = ((answer - noise) ** 2).double().mean().item()
    assert one.losses().text_guided[DRAWS + 4] == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_the_denoising_loss_of_flux_by_hand(stage) -> None:
    one = stage("flux")
    picture, prompt = one.test[0], one.prompts[""]
    share, noise, clean = picture.moments[7], picture.noise[7:8], picture.latents
    rows = [
        ((1 - share) * clean + share * noise)[0, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].reshape(-1)
        for y in range(8)
        for x in range(8)
    ]
    places = torch.tensor([[0.0, y, x] for y in range(8) for x in range(8)])
    answer = one.pipeline.denoiser(
        hidden_states=torch.stack(rows)[None],
        timestep=torch.tensor([share], dtype=torch.float32),
        guidance=torch.ones(1),
        pooled_projections=prompt.whole,
        encoder_hidden_states=prompt.words,
        txt_ids=torch.zeros(prompt.words.shape[1], 3),
        img_ids=places,
    ).sample[0]
    wanted = torch.stack(
        [(noise - clean)[0, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].reshape(-1) for y in range(8) for x in range(8)]
    )
    expected = ((answer - wanted) ** 2).double().mean().item()
    assert one.losses().no_text[7] == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_a_base_that_predicts_velocity(stage) -> None:
    one = stage("sdxl")
    scheduler = type(one.pipeline.scheduler).from_config(one.pipeline.scheduler.config, prediction_type="v_prediction")
    changed = Stage.__new__(Stage)
    changed.pipeline = _with(one.pipeline, scheduler=scheduler)
    changed.test, changed.prompts = one.test, one.prompts
    assert changed.losses().no_text != one.losses().no_text
    other = type(scheduler).from_config(scheduler.config, prediction_type="sample")
    changed.pipeline = _with(one.pipeline, scheduler=other)
    with pytest.raises(ConfigError, match="predicts 'sample'"):
        changed.losses()


@BOTH
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@torch.no_grad()
def test_pictures_are_drawn_as_diffusers_draws_them(stage, monkeypatch: pytest.MonkeyPatch, model_type: str) -> None:
    """The library's own img2img, given our latents' noise and the mean of the encoder in place of a draw."""
    one = stage(model_type)
    picture = one.test[0]
    image = FAMILIES[one.pipeline.model_type].decode(
        one.pipeline, _redrawn(one, picture.noise[:2], one.prompts[picture.caption])
    )
    parts = _library_pipeline(one.pipeline)
    module = sys.modules[type(parts).__module__]
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: picture.noise[:1].clone())
    monkeypatch.setattr(module, "retrieve_latents", lambda encoded, **_: encoded.latent_dist.mode())
    given: dict[str, Any] = {"prompt": picture.caption, "image": picture.pixels, "output_type": "pt"}
    if model_type == "sdxl":
        given |= {"negative_prompt": "", "strength": 0.9, "num_inference_steps": 20, "guidance_scale": 8.0}
        given |= {"original_size": (64, 64), "target_size": (64, 64)}
    else:
        given |= {"strength": 0.75, "num_inference_steps": 35, "guidance_scale": 100.0, "max_sequence_length": 16}
        given |= {"height": 64, "width": 64}
    with plain_attention():
        library = parts(**given).images
    torch.testing.assert_close(image[:1], library, rtol=0, atol=1e-4)


@BOTH
def test_the_pixel_loss_is_the_mean_of_squares_between_pictures(stage, model_type: str) -> None:
    one = stage(model_type)
    picture = one.test[2]
    with torch.no_grad():
        image = FAMILIES[one.pipeline.model_type].decode(one.pipeline, _redrawn(one, picture.noise, one.prompts[""]))
    got = one.losses([picture], metric="pixel")
    assert len(got.text_guided) == len(got.no_text) == DRAWS
    wanted = picture.pixels.flatten().tolist()
    for value, drawn in zip(got.no_text, image, strict=True):
        errors = [(a - b) ** 2 for a, b in zip(drawn.flatten().tolist(), wanted, strict=True)]
        assert value == pytest.approx(math.fsum(errors) / len(errors), rel=1e-5)
    assert 0 < min(got.text_guided) <= max(got.text_guided) < 1


@BOTH
def test_neither_batch_nor_order_nor_company_matter(stage, model_type: str) -> None:
    one = stage(model_type)
    whole = one.losses()
    assert one.losses() == whole
    for batch in (1, 3):
        assert one.losses(batch=batch).text_guided == pytest.approx(whole.text_guided, abs=1e-6)
    backwards = one.losses(one.test[::-1])
    turned = [value for at in (2, 1, 0) for value in backwards.no_text[at * DRAWS : (at + 1) * DRAWS]]
    assert turned == pytest.approx(whole.no_text, abs=1e-6)
    assert one.losses(one.test[1:2]).text_guided == pytest.approx(whole.text_guided[DRAWS : 2 * DRAWS], abs=1e-6)


def test_what_is_drawn_follows_from_seed_and_index() -> None:
    noise, moments = noise_of(SEED, 3, (4, 2, 2))
    again, same = noise_of(SEED, 3, (4, 2, 2))
    assert torch.equal(noise, again)
    assert moments == same
    assert not torch.equal(noise, noise_of(SEED, 4, (4, 2, 2))[0])
    assert not torch.equal(noise, noise_of(b"\4" * 32, 3, (4, 2, 2))[0])
    assert [int(moment * DRAWS) for moment in moments] == list(range(DRAWS))
    many = torch.cat([noise_of(SEED, index, (4, 8, 8))[0] for index in range(9)])
    assert abs(float(many.mean())) < 0.02
    assert abs(float(many.std()) - 1) < 0.02


def test_a_picture_is_scaled_and_cropped_to_its_middle() -> None:
    image = Image.new("RGB", (100, 53), (0, 0, 255))
    pair = Pair("a.png", _png(image), "x")
    pixels = pixels_of(pair, 200, 8)
    assert pixels.shape == (1, 3, 104, 200)
    assert pixels[0, :, 50, 100].tolist() == [0, 0, 1]
    assert pixels_of(pair, 64, 16).shape == (1, 3, 32, 64)
    with pytest.raises(ConfigError, match=r"picture a\.png is 64 × 34 pixels"):
        pixels_of(pair, 64, 64)


@BOTH
def test_captions_are_read_as_diffusers_reads_them(stage, model_type: str) -> None:
    one = stage(model_type)
    caption = one.test[0].caption
    with plain_attention():
        if model_type == "sdxl":
            words, _, whole, _ = _library_pipeline(one.pipeline).encode_prompt(
                caption, do_classifier_free_guidance=False
            )
        else:
            words, whole, _ = _library_pipeline(one.pipeline).encode_prompt(caption, None, max_sequence_length=16)
    torch.testing.assert_close(one.prompts[caption].words, words)
    torch.testing.assert_close(one.prompts[caption].whole, whole)
    assert not torch.equal(one.prompts[caption].words, one.prompts[""].words)


def test_an_archive_gives_the_test_set(pipelines, archive) -> None:
    pairs = read_pairs(archive)
    found = prepare(pipelines("sdxl"), pairs, SEED, 64)
    assert [picture.caption for picture in found] == [pair.caption for pair in pairs]
    assert {tuple(picture.latents.shape) for picture in found} == {(1, 4, 16, 16)}


def _redrawn(one: Stage, noise: torch.Tensor, prompt: Any) -> torch.Tensor:
    family = sdxl if one.pipeline.model_type == "sdxl" else flux
    latents = next(picture.latents for picture in one.test if any(torch.equal(noise[0], n) for n in picture.noise))
    with plain_attention():
        return family.redraw(one.pipeline, latents, noise, prompt, one.prompts[""])


def _library_pipeline(pipeline: Pipeline) -> Any:
    first, second = pipeline.encoders
    parts: dict[str, Any] = {
        "vae": pipeline.vae,
        "text_encoder": first.model,
        "text_encoder_2": second.model,
        "tokenizer": first.tokenizer,
        "tokenizer_2": second.tokenizer,
        "scheduler": type(pipeline.scheduler).from_config(pipeline.scheduler.config),
        pipeline.component: pipeline.denoiser,
    }
    library: Any = diffusers
    found = (
        library.StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)
        if pipeline.model_type == "sdxl"
        else library.FluxImg2ImgPipeline(**parts)
    )
    found.set_progress_bar_config(disable=True)
    return found


def _with(pipeline: Pipeline, **changes: Any) -> Pipeline:
    from dataclasses import replace

    return replace(pipeline, **changes)


def _png(image: Image.Image) -> bytes:
    import io

    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
