// The models that come with flatmin, by name. Their specs are built natively, so the command line and other languages share them.

import { call } from './call.js';
import { settleDevice } from './device.js';
import { FlatminError } from './errors.js';
import { Model } from './model.js';
import type { ModelSpec } from './model-spec.js';
import { ModelSummary, type Summarized } from './model-summary.js';
import { loadNative } from './native/index.js';
import { type ZooOptions, zooSchema } from './options/model.js';
import { parseOptions, suggestion } from './options/parse.js';

/** Names of all models, in the order of their size within a family. */
export function names(): string[] {
  return call(() => loadNative().zooNames());
}

/** The model of that name, with fresh weights. */
export function create(name: string, options: ZooOptions = {}): Model {
  const { spec, ...rest } = describe(name, options);
  return Model.fromSpec(spec, rest);
}

/** What the model of that name is made of, as plain data. */
export function spec(name: string, options: ZooOptions = {}): ModelSpec {
  return describe(name, options).spec;
}

/** Layers, shapes, parameters and costs of the model of that name, told without making it. */
export function summary(name: string, options: ZooOptions = {}): ModelSummary {
  const { spec, dtype } = describe(name, options);
  return new ModelSummary(call(() => loadNative().specSummary(spec, { dtype })) as Summarized);
}

function describe(name: string, options: ZooOptions) {
  const { dtype, device, seed, classNames, normalization, ...architecture } = parseOptions(
    zooSchema,
    options,
    `models.${name}`,
  );
  // Before anything is asked of the native side, which is loaded for one kind of device.
  settleDevice(device);
  const known = names();
  if (!known.includes(name)) {
    throw new FlatminError(
      'ERR_FLATMIN_NAME',
      `Unknown model '${name}'${suggestion(String(name), known)} (models: ${known.join(', ')})`,
    );
  }
  const numClasses = architecture.numClasses ?? classNames?.length;
  const given = Object.entries({ ...architecture, numClasses }).filter(([, value]) => value !== undefined);
  const spec: ModelSpec = {
    ...(call(() => loadNative().zooSpec(name, Object.fromEntries(given))) as ModelSpec),
    ...(classNames && { classNames }),
    ...(normalization && { normalization }),
  };
  return { spec, dtype, device, seed };
}

/** ResNet-20 for CIFAR (He et al. 2016, section 4.2), option-A shortcuts; 0.27 M parameters. */
export const resnet20 = (options?: ZooOptions): Model => create('resnet20', options);

/** ResNet-32 for CIFAR; 0.46 M parameters. */
export const resnet32 = (options?: ZooOptions): Model => create('resnet32', options);

/** ResNet-44 for CIFAR; 0.66 M parameters. */
export const resnet44 = (options?: ZooOptions): Model => create('resnet44', options);

/** ResNet-56 for CIFAR; 0.85 M parameters. */
export const resnet56 = (options?: ZooOptions): Model => create('resnet56', options);

/** ResNet-110 for CIFAR; 1.7 M parameters. */
export const resnet110 = (options?: ZooOptions): Model => create('resnet110', options);

/** ResNet-20 for CIFAR with projections where shapes change (option B), torchvision's names; 0.27 M parameters. */
export const resnet20_b = (options?: ZooOptions): Model => create('resnet20_b', options);

/** ResNet-32 for CIFAR, option B; 0.47 M parameters. */
export const resnet32_b = (options?: ZooOptions): Model => create('resnet32_b', options);

/** ResNet-44 for CIFAR, option B; 0.66 M parameters. */
export const resnet44_b = (options?: ZooOptions): Model => create('resnet44_b', options);

/** ResNet-56 for CIFAR, option B; 0.86 M parameters. */
export const resnet56_b = (options?: ZooOptions): Model => create('resnet56_b', options);

/** ResNet-110 for CIFAR, option B; 1.7 M parameters. */
export const resnet110_b = (options?: ZooOptions): Model => create('resnet110_b', options);

/** Bottleneck ResNet-20 for CIFAR of the study Sharpness-Aware-Minimization-TensorFlow; 571,114 parameters. */
export const resnet20_bottleneck = (options?: ZooOptions): Model => create('resnet20_bottleneck', options);

/** Pre-activation ResNet-18 for CIFAR (He et al. 2016b); 11.2 M parameters. */
export const preact_resnet18 = (options?: ZooOptions): Model => create('preact_resnet18', options);

/** Pre-activation ResNet-164 for CIFAR with bottlenecks (He et al. 2016b, table 3); 1.7 M parameters. */
export const preact_resnet164 = (options?: ZooOptions): Model => create('preact_resnet164', options);

/** Wide ResNet-16-8 for CIFAR (Zagoruyko and Komodakis 2016); 11.0 M parameters. */
export const wrn16_8 = (options?: ZooOptions): Model => create('wrn16_8', options);

/** Wide ResNet-28-2 for CIFAR; 1.5 M parameters. */
export const wrn28_2 = (options?: ZooOptions): Model => create('wrn28_2', options);

/** Wide ResNet-28-10 for CIFAR; 36.5 M parameters. */
export const wrn28_10 = (options?: ZooOptions): Model => create('wrn28_10', options);

/** Wide ResNet-40-2 for CIFAR; 2.2 M parameters. */
export const wrn40_2 = (options?: ZooOptions): Model => create('wrn40_2', options);

/** ResNeXt-29 8x64d for CIFAR (Xie et al. 2017, section 5.3); 34.4 M parameters. */
export const resnext29_8x64d = (options?: ZooOptions): Model => create('resnext29_8x64d', options);

/** DenseNet-BC-100 with growth rate 12 for CIFAR (Huang et al. 2017); 0.77 M parameters. */
export const densenet_bc_100_12 = (options?: ZooOptions): Model => create('densenet_bc_100_12', options);

/** DenseNet-121 for ImageNet (Huang et al. 2017, table 1), torchvision's names; 8.0 M parameters. */
export const densenet121 = (options?: ZooOptions): Model => create('densenet121', options);

/** VGG-16 with batch norm for CIFAR, a classifier of 512 units; 15.3 M parameters. */
export const vgg16_bn = (options?: ZooOptions): Model => create('vgg16_bn', options);

/** MobileNetV2 for CIFAR (Sandler et al. 2018), three strides of 2; 2.2 M parameters. */
export const mobilenet_v2 = (options?: ZooOptions): Model => create('mobilenet_v2', options);

/** PyramidNet-110 for CIFAR (Han et al. 2017), alpha 48; 1.8 M parameters. */
export const pyramidnet110_a48 = (options?: ZooOptions): Model => create('pyramidnet110_a48', options);

/** PyramidNet-110 for CIFAR, alpha 270; 28.5 M parameters. */
export const pyramidnet110_a270 = (options?: ZooOptions): Model => create('pyramidnet110_a270', options);

/** PyramidNet-272 for CIFAR with bottlenecks, alpha 200, with ShakeDrop (Yamada et al. 2018); 26.2 M parameters. */
export const pyramidnet272_a200_bottleneck = (options?: ZooOptions): Model =>
  create('pyramidnet272_a200_bottleneck', options);

/** Shake-Shake-26 2x32d for CIFAR (Gastaldi 2017); 2.9 M parameters. */
export const shake_shake26_2x32d = (options?: ZooOptions): Model => create('shake_shake26_2x32d', options);

/** Shake-Shake-26 2x96d for CIFAR; 26.2 M parameters. */
export const shake_shake26_2x96d = (options?: ZooOptions): Model => create('shake_shake26_2x96d', options);

/** Four 3x3 convolutions with batch norm for 8x8 images such as the digits; trains in seconds. */
export const demo = (options?: ZooOptions): Model => create('demo', options);

/** ResNet-18 for ImageNet (He et al. 2016, table 1), torchvision's names; 11.7 M parameters. */
export const resnet18 = (options?: ZooOptions): Model => create('resnet18', options);

/** ResNet-34 for ImageNet; 21.8 M parameters. */
export const resnet34 = (options?: ZooOptions): Model => create('resnet34', options);

/** ResNet-50 for ImageNet, stride in the 3x3 convolutions (v1.5); 25.6 M parameters. */
export const resnet50 = (options?: ZooOptions): Model => create('resnet50', options);

/** ResNet-101 for ImageNet, v1.5; 44.5 M parameters. */
export const resnet101 = (options?: ZooOptions): Model => create('resnet101', options);

/** ResNet-152 for ImageNet, v1.5; 60.2 M parameters. */
export const resnet152 = (options?: ZooOptions): Model => create('resnet152', options);

/** Wide ResNet-50-2 for ImageNet (Zagoruyko and Komodakis 2016); 68.9 M parameters. */
export const wide_resnet50_2 = (options?: ZooOptions): Model => create('wide_resnet50_2', options);

/** ResNeXt-50 32x4d for ImageNet (Xie et al. 2017); 25.0 M parameters. */
export const resnext50_32x4d = (options?: ZooOptions): Model => create('resnext50_32x4d', options);

/** EfficientNet-B0 for ImageNet (Tan and Le 2019), torchvision's names; 5.3 M parameters. */
export const efficientnet_b0 = (options?: ZooOptions): Model => create('efficientnet_b0', options);

/** ConvNeXt-T for ImageNet (Liu et al. 2022), torchvision's names; 28.6 M parameters. */
export const convnext_tiny = (options?: ZooOptions): Model => create('convnext_tiny', options);

/** ViT-S/16 for ImageNet (Dosovitskiy et al. 2021, Touvron et al. 2021), timm's names; 22.1 M parameters. */
export const vit_s_16 = (options?: ZooOptions): Model => create('vit_s_16', options);
