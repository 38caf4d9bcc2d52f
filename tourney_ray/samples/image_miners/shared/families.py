"""SDXL and Flux as a LoRA trainer needs them: loaded, asked, and with the loss that each of them was trained by."""

from pathlib import Path

import numpy
import torch
from PIL import Image


class Family:
    """A pipeline's modules; `denoiser` is what learns."""

    def __init__(self, folder: Path):
        from diffusers import AutoencoderKL
        from transformers import CLIPTextModel, CLIPTokenizer

        self.folder = folder
        self.vae = load(AutoencoderKL, folder / "vae")
        self.first = CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True).eval()
        self.first_tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)

    @torch.no_grad()
    def latents(self, picture: Image.Image):
        """Of one picture, cut to a size that the model takes, 1024 pixels at most."""
        step = 2 ** (len(self.vae.config.block_out_channels) - 1) * 2
        scale = min(1.0, 1024 / max(picture.size))
        width, height = (max(step, int(side * scale) // step * step) for side in picture.size)
        pixels = numpy.asarray(picture.resize((width, height), Image.Resampling.LANCZOS), dtype=numpy.float32)
        found = self.vae.encode(torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]).latent_dist.mode()
        return (found - (self.vae.config.shift_factor or 0)) * self.vae.config.scaling_factor


class Sdxl(Family):
    """Learns to say what the noise is."""

    def __init__(self, folder: Path):
        from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer

        super().__init__(folder)
        self.denoiser = load(UNet2DConditionModel, folder / "unet")
        self.second = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2", local_files_only=True)
        self.second_tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer_2", local_files_only=True)
        self.signal = EulerDiscreteScheduler.from_pretrained(folder / "scheduler").alphas_cumprod

    @torch.no_grad()
    def words(self, caption: str):
        first = self.first(tokens(self.first_tokens, caption), output_hidden_states=True)
        second = self.second.eval()(tokens(self.second_tokens, caption), output_hidden_states=True)
        return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1), second.text_embeds

    def loss(self, latents, words, whole):
        step = torch.randint(len(self.signal), (len(latents),))
        signal = self.signal[step].view(-1, 1, 1, 1)
        noise = torch.randn_like(latents)
        side = 2 ** (len(self.vae.config.block_out_channels) - 1)
        size = [latents.shape[2] * side, latents.shape[3] * side]
        sizes = torch.tensor([[*size, 0, 0, *size]], dtype=torch.float32).expand(len(latents), -1)
        noisy = signal**0.5 * latents + (1 - signal) ** 0.5 * noise
        added = {"text_embeds": whole, "time_ids": sizes}
        answer = self.denoiser(noisy, step, encoder_hidden_states=words, added_cond_kwargs=added).sample
        return (answer - noise).square().mean()


class Flux(Family):
    """Learns to say where the noise comes from and where it goes."""

    def __init__(self, folder: Path):
        from diffusers import FluxTransformer2DModel
        from transformers import T5EncoderModel, T5TokenizerFast

        super().__init__(folder)
        self.denoiser = load(FluxTransformer2DModel, folder / "transformer")
        self.second = T5EncoderModel.from_pretrained(folder / "text_encoder_2", local_files_only=True).eval()
        self.second_tokens = T5TokenizerFast.from_pretrained(folder / "tokenizer_2", local_files_only=True)

    @torch.no_grad()
    def words(self, caption: str):
        pooled = self.first(tokens(self.first_tokens, caption)).pooler_output
        return self.second(tokens(self.second_tokens, caption))[0], pooled

    def loss(self, latents, words, whole):
        count, _, height, width = latents.shape
        share = torch.rand(count)
        noise = torch.randn_like(latents)
        noisy = torch.lerp(latents, noise, share.view(-1, 1, 1, 1))
        grid = torch.cartesian_prod(torch.zeros(1), torch.arange(height / 2), torch.arange(width / 2))
        answer = self.denoiser(
            hidden_states=patches(noisy),
            timestep=share,
            guidance=torch.ones(count) if self.denoiser.config.guidance_embeds else None,
            pooled_projections=whole,
            encoder_hidden_states=words,
            txt_ids=torch.zeros(words.shape[1], 3),
            img_ids=grid,
        ).sample
        return (answer - patches(noise - latents)).square().mean()


def patches(latents):
    """Squares of four latent pixels, one row each."""
    count, channels, height, width = latents.shape
    cut = latents.reshape(count, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(count, height * width // 4, channels * 4)


def tokens(tokenizer, caption: str):
    length = min(512, tokenizer.model_max_length)
    found = tokenizer(caption, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return found.input_ids


def load(kind, folder: Path):
    return kind.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False).eval().requires_grad_(False)
