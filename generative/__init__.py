"""Part 4, step 4: a GAN, a diffusion model, and measures of how good their pictures are."""
