// What `flatmin setup` brings: every file with its version, size and sha256, in this one table.
// The CUDA set is what the torch wheel itself requires (its Requires-Dist, resolved for CUDA toolkit 13.0.3), Python packages left out.

/** The libtorch release that the published addon is built against. */
export const torchVersion = '2.13.0';

/** Which of a wheel's files are wanted, and where they go. */
export type WheelRole = 'torch' | 'cuda-library';

/** One wheel of the Python package registry. */
export interface Wheel {
  readonly name: string;
  readonly version: string;
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly role: WheelRole;
  /** Bytes that its wanted files take once unpacked: for a CPU-only set-up, and for CUDA. */
  readonly unpacked: { readonly cpu: number; readonly cuda: number };
  /** For CUDA libraries that libtorch_cpu itself needs: the only files a CPU-only set-up takes. */
  readonly cpuFiles?: readonly string[];
}

/** PyTorch's own libtorch archive, for machines without Python. Its sha256 is not published beside it. */
export interface Archive {
  /** Path below the download site. */
  readonly path: string;
  readonly file: string;
  /** Upper estimates, for the check of free space. */
  readonly bytes: number;
  readonly unpacked: number;
}

export interface LibtorchTable {
  readonly version: string;
  /** `pip download` options that select wheels for this platform, whatever Python runs pip. */
  readonly pip: {
    readonly pythonVersion: string;
    readonly implementation: string;
    readonly platforms: readonly string[];
  };
  readonly wheels: readonly Wheel[];
  readonly archives: { readonly cpu: Archive; readonly cuda: Archive };
}

function cuda(name: string, version: string, tags: string, bytes: number, unpacked: number, sha256: string): Wheel {
  const file = `${name.replaceAll('-', '_')}-${version}-py3-none-${tags}.whl`;
  return { name, version, file, bytes, sha256, role: 'cuda-library', unpacked: { cpu: 0, cuda: unpacked } };
}

function neededByCpu(wheel: Wheel, library: string, bytes: number): Wheel {
  return { ...wheel, cpuFiles: [library], unpacked: { ...wheel.unpacked, cpu: bytes } };
}

const wheels: readonly Wheel[] = [
  {
    name: 'torch',
    version: torchVersion,
    file: 'torch-2.13.0-cp312-cp312-manylinux_2_28_x86_64.whl',
    bytes: 526_605_292,
    sha256: '796633c4cdf0fe2cdced72d8f88f22e73dbcfce83132763162f6d4bff13b820b',
    role: 'torch',
    unpacked: { cpu: 520_000_000, cuda: 1_100_000_000 },
  },
  neededByCpu(
    cuda(
      'nvidia-cuda-runtime',
      '13.0.96',
      'manylinux2014_x86_64.manylinux_2_17_x86_64',
      2_243_632,
      704_288,
      '7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548',
    ),
    'libcudart.so.13',
    704_288,
  ),
  neededByCpu(
    cuda(
      'nvidia-cuda-cupti',
      '13.0.85',
      'manylinux_2_25_x86_64',
      10_715_597,
      43_948_952,
      '4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8',
    ),
    'libcupti.so.13',
    4_152_208,
  ),
  cuda(
    'nvidia-cublas',
    '13.1.1.3',
    'manylinux_2_27_x86_64',
    423_138_758,
    596_523_368,
    '37936a16db8fe4ac1f065c2139360608a543a09275cb1a1af612e08cfa065436',
  ),
  cuda(
    'nvidia-cuda-nvrtc',
    '13.0.88',
    'manylinux2010_x86_64.manylinux_2_12_x86_64',
    90_215_200,
    227_912_592,
    'ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575',
  ),
  cuda(
    'nvidia-cudnn-cu13',
    '9.20.0.48',
    'manylinux_2_27_x86_64',
    366_173_588,
    493_418_952,
    '0c45dd8eeb50b603f07995b1b300c62ffe6a1980482b82b3bcf94a4ca9d49304',
  ),
  cuda(
    'nvidia-cufft',
    '12.0.0.61',
    'manylinux2014_x86_64.manylinux_2_17_x86_64',
    214_085_489,
    287_534_056,
    '6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3',
  ),
  cuda(
    'nvidia-cufile',
    '1.15.1.6',
    'manylinux2014_x86_64.manylinux_2_17_x86_64',
    1_223_672,
    3_214_120,
    '08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44',
  ),
  cuda(
    'nvidia-curand',
    '10.4.0.35',
    'manylinux_2_27_x86_64',
    59_544_258,
    132_698_328,
    '1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc',
  ),
  cuda(
    'nvidia-cusolver',
    '12.0.4.66',
    'manylinux_2_27_x86_64',
    200_941_980,
    245_109_712,
    '0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112',
  ),
  cuda(
    'nvidia-cusparse',
    '12.6.3.3',
    'manylinux2014_x86_64.manylinux_2_17_x86_64',
    145_942_937,
    162_565_256,
    '2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b',
  ),
  cuda(
    'nvidia-cusparselt-cu13',
    '0.8.1',
    'manylinux2014_x86_64',
    170_148_586,
    233_912_153,
    '786ce87568c303fadb5afcc7102d454cd3040d75f6f8626f5db460d1871f4dd0',
  ),
  cuda(
    'nvidia-nccl-cu13',
    '2.29.7',
    'manylinux_2_18_x86_64',
    205_976_000,
    236_524_880,
    'edd81538446786ec3b73972543e53bb43bcaf0bfc8ef76cb679fcc390ffe136d',
  ),
  cuda(
    'nvidia-nvjitlink',
    '13.0.88',
    'manylinux2010_x86_64.manylinux_2_12_x86_64',
    40_713_933,
    98_806_736,
    '13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b',
  ),
  cuda(
    'nvidia-nvshmem-cu13',
    '3.4.5',
    'manylinux2014_x86_64.manylinux_2_17_x86_64',
    60_412_546,
    45_753_096,
    '290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80',
  ),
  cuda(
    'nvidia-nvtx',
    '13.0.85',
    'manylinux1_x86_64.manylinux_2_5_x86_64',
    148_047,
    40_160,
    '4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4',
  ),
];

const pip = {
  pythonVersion: '3.12',
  implementation: 'cp',
  platforms: [
    'manylinux_2_28_x86_64',
    'manylinux_2_27_x86_64',
    'manylinux_2_25_x86_64',
    'manylinux_2_18_x86_64',
    'manylinux_2_17_x86_64',
    'manylinux_2_12_x86_64',
    'manylinux_2_5_x86_64',
    'manylinux2014_x86_64',
    'manylinux2010_x86_64',
    'manylinux1_x86_64',
  ],
};

function archivesOf(version: string): LibtorchTable['archives'] {
  const archive = (kind: string, bytes: number, unpacked: number): Archive => ({
    path: `libtorch/${kind}/libtorch-shared-with-deps-${version}%2B${kind}.zip`,
    file: `libtorch-shared-with-deps-${version}+${kind}.zip`,
    bytes,
    unpacked,
  });
  return { cpu: archive('cpu', 250_000_000, 1_000_000_000), cuda: archive('cu130', 3_500_000_000, 7_000_000_000) };
}

/** Linux x64 with glibc: the only platform with a build so far. */
export const libtorchTable: LibtorchTable = {
  version: torchVersion,
  pip,
  wheels,
  archives: archivesOf(torchVersion),
};

/**
 * The release before, against which the addon can be built, too: for machines whose Python has its PyTorch and which cannot
 * bring another. Only the wheels of a build are listed: such a machine has the CUDA set.
 */
export const olderTable: LibtorchTable = {
  version: '2.11.0',
  pip,
  wheels: [
    {
      name: 'torch',
      version: '2.11.0',
      file: 'torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl',
      bytes: 530_712_279,
      sha256: '0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756',
      role: 'torch',
      unpacked: { cpu: 500_000_000, cuda: 1_100_000_000 },
    },
    ...wheels.filter((wheel) => wheel.cpuFiles !== undefined),
  ],
  archives: archivesOf('2.11.0'),
};

/** The wheels that a device needs. */
export function wheelsFor(table: LibtorchTable, device: 'cpu' | 'cuda'): readonly Wheel[] {
  return device === 'cuda' ? table.wheels : table.wheels.filter((wheel) => wheel.unpacked.cpu > 0);
}
