"""The TensorFlow operations that only compute: what the graph of an unknown model may hold.

Taken from the registry of TensorFlow 2.21 (1,910 operations) family by family. Left out on purpose:
whatever reads or writes files, even where the name does not tell (ImmutableConst maps a file into
memory, DebugIdentity and PrintV2 write to any address they are given); the network, sessions and
other devices; Python; queues, datasets, readers, summaries; compiled programs in an attribute,
which cannot be looked into (XlaCallModule, TensorRT engines); decoders of file formats; what stops
or stalls the process (Abort, SleepOp).
"""

_FAMILIES = {
    "constants, shapes and flow": """
        Const Placeholder PlaceholderV2 PlaceholderWithDefault NoOp Identity IdentityN Snapshot
        StopGradient PreventGradient EnsureShape Shape ShapeN Size Rank ControlTrigger FakeParam
        Assert CheckNumerics CheckNumericsV2 DeepCopy GuaranteeConst Empty InvertPermutation
        Switch Merge RefSwitch RefMerge Enter Exit NextIteration LoopCond If StatelessIf While
        StatelessWhile Case StatelessCase For PartitionedCall StatefulPartitionedCall MapDefun
        SymbolicGradient ToBool DeviceIndex
    """,
    "variables, lists and seeds of the model's own": """
        VarHandleOp ReadVariableOp AssignVariableOp AssignAddVariableOp AssignSubVariableOp
        VarIsInitializedOp VariableShape DestroyResourceOp DisableCopyOnRead Variable VariableV2
        Assign AssignAdd AssignSub IsVariableInitialized RefIdentity ResourceGather
        ResourceGatherNd ResourceScatterAdd ResourceScatterSub ResourceScatterUpdate
        ResourceScatterNdUpdate ResourceScatterNdAdd ResourceStridedSliceAssign
        EmptyTensorList TensorListConcat TensorListConcatLists TensorListConcatV2
        TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem
        TensorListLength TensorListPopBack TensorListPushBack TensorListPushBackBatch
        TensorListReserve TensorListResize TensorListScatter TensorListScatterIntoExistingList
        TensorListScatterV2 TensorListSetItem TensorListSplit TensorListStack
        TensorArrayV3 TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3
        TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3 TensorArrayWriteV3
        RngReadAndSkip RngSkip StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform
        StatefulUniformFullInt StatefulUniformInt
    """,
    "arithmetic": """
        Abs AccumulateNV2 Acos Acosh Add AddN AddV2 Angle ApproximateEqual Asin Asinh Atan Atan2
        Atanh BesselI0 BesselI0e BesselI1 BesselI1e BesselJ0 BesselJ1 BesselK0 BesselK0e BesselK1
        BesselK1e BesselY0 BesselY1 Betainc Bitcast BitwiseAnd BitwiseOr BitwiseXor Cast Ceil
        ClipByValue Complex ComplexAbs Conj Cos Cosh Cross Digamma Div DivNoNan Equal Erf Erfc
        Erfinv Exp Expint Expm1 Floor FloorDiv FloorMod FresnelCos FresnelSin Greater GreaterEqual
        Igamma Igammac Imag Inv Invert IsFinite IsInf IsNan LeftShift Less LessEqual Lgamma Log
        Log1p LogicalAnd LogicalNot LogicalOr Maximum Minimum Mod Mul MulNoNan Ndtri Neg NextAfter
        NotEqual Polygamma PopulationCount Pow Real RealDiv Reciprocal RightShift Rint Round Rsqrt
        Select SelectV2 Sign Sin Sinh Spence Sqrt Square SquaredDifference Sub Tan TruncateDiv
        TruncateMod Xdivy Xlog1py Xlogy Zeta
    """,
    "reductions, sorting and searching": """
        All Any ApproxTopK ArgMax ArgMin Bincount Bucketize Cumprod Cumsum CumulativeLogsumexp
        DenseBincount EuclideanNorm HistogramFixedWidth InTopK InTopKV2 IsotonicRegression L2Loss
        ListDiff LowerBound Max Mean Min NthElement Prod SegmentMax SegmentMaxV2 SegmentMean
        SegmentMin SegmentMinV2 SegmentProd SegmentProdV2 SegmentSum SegmentSumV2 Sum TopK TopKV2
        Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 UnsortedSegmentMax UnsortedSegmentMin
        UnsortedSegmentProd UnsortedSegmentSum UpperBound Where
    """,
    "the arrangement of tensors": """
        BatchToSpace BatchToSpaceND BroadcastArgs BroadcastGradientArgs BroadcastTo Concat
        ConcatOffset ConcatV2 ConjugateTranspose DataFormatDimMap DataFormatVecPermute
        DepthToSpace Diag DiagPart DynamicPartition DynamicStitch ExpandDims Fill Gather GatherNd
        GatherV2 InplaceAdd InplaceSub InplaceUpdate LinSpace MatrixBandPart MatrixDiag
        MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag
        MatrixSetDiagV2 MatrixSetDiagV3 MirrorPad OneHot OnesLike Pack Pad PadV2 ParallelConcat
        ParallelDynamicStitch Range Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd
        ScatterNdNonAliasingAdd Slice SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Squeeze
        StridedSlice TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub
        TensorScatterUpdate TensorStridedSliceUpdate Tile Transpose Unpack UnravelIndex ZerosLike
    """,
    "matrices and transforms": """
        BandedTriangularSolve BatchMatMul BatchMatMulV2 BatchMatMulV3 Cholesky Eig Einsum FFT FFT2D
        FFT3D FFTND IFFT IFFT2D IFFT3D IFFTND IRFFT IRFFT2D IRFFT3D IRFFTND LogMatrixDeterminant
        Lu MatMul MatrixDeterminant MatrixExponential MatrixInverse MatrixLogarithm MatrixSolve
        MatrixSolveLs MatrixSquareRoot MatrixTriangularSolve Qr RFFT RFFT2D RFFT3D RFFTND
        SelfAdjointEig SelfAdjointEigV2 SparseMatMul SparseTensorDenseMatMul SparseToDense Svd
        TridiagonalMatMul TridiagonalSolve
    """,
    "layers of networks": """
        AvgPool AvgPool3D BatchNormWithGlobalNormalization BiasAdd BiasAddV1 Conv Conv2D
        Conv2DBackpropFilter Conv2DBackpropFilterV2 Conv2DBackpropInput Conv2DBackpropInputV2
        Conv3D Conv3DBackpropInput Conv3DBackpropInputV2 DepthwiseConv2dNative
        DepthwiseConv2dNativeBackpropInput Dilation2D Elu FractionalAvgPool FractionalMaxPool
        FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D
        GRUBlockCell LRN LSTMBlockCell BlockLSTM BlockLSTMV2 LeakyRelu LogSoftmax MaxPool MaxPool3D
        MaxPoolV2 MaxPoolWithArgmax Relu Relu6 Selu Sigmoid Softmax SoftmaxCrossEntropyWithLogits
        Softplus Softsign SparseSoftmaxCrossEntropyWithLogits Tanh
        AvgPoolGrad BiasAddGrad EluGrad FusedBatchNormGrad FusedBatchNormGradV2
        FusedBatchNormGradV3 InvGrad LeakyReluGrad MaxPoolGrad MaxPoolGradV2 MirrorPadGrad
        ReciprocalGrad Relu6Grad ReluGrad ResizeBicubicGrad ResizeBilinearGrad
        ResizeNearestNeighborGrad RsqrtGrad SeluGrad SigmoidGrad SoftplusGrad SoftsignGrad
        SqrtGrad StridedSliceGrad TanhGrad
        Dequantize FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
        FakeQuantWithMinMaxVarsPerChannel QuantizeAndDequantize QuantizeAndDequantizeV2
        QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 QuantizeDownAndShrinkRange QuantizeV2
        QuantizedAdd QuantizedBiasAdd QuantizedConv2D QuantizedMatMul QuantizedMaxPool QuantizedRelu
        RequantizationRange Requantize UniformDequantize UniformQuantize UniformQuantizedAdd
        UniformQuantizedConvolution UniformQuantizedConvolutionHybrid UniformQuantizedDot
        UniformQuantizedDotHybrid UniformRequantize
    """,
    "images": """
        AdjustContrast AdjustContrastv2 AdjustHue AdjustSaturation CropAndResize
        DrawBoundingBoxesV2 ExtractGlimpse ExtractGlimpseV2 ExtractImagePatches
        ExtractVolumePatches HSVToRGB ImageProjectiveTransformV2 ImageProjectiveTransformV3
        NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4
        NonMaxSuppressionV5 RGBToHSV ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor
        ScaleAndTranslate
    """,
    "random numbers": """
        Multinomial ParameterizedTruncatedNormal RandomCrop RandomGamma RandomIndexShuffle
        RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt
        StatelessMultinomial StatelessParameterizedTruncatedNormal StatelessRandomBinomial
        StatelessRandomGammaV2 StatelessRandomGammaV3 StatelessRandomGetAlg
        StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg StatelessRandomNormal
        StatelessRandomNormalV2 StatelessRandomPoisson StatelessRandomUniform
        StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomUniformInt
        StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessShuffle
        StatelessTruncatedNormal StatelessTruncatedNormalV2 TruncatedNormal
    """,
    # What the saver of every SavedModel makes up its names with.
    "texts in memory": """
        AsString StaticRegexFullMatch StringFormat StringJoin
    """,
}

ALLOWED: frozenset[str] = frozenset(
    name for family in _FAMILIES.values() for name in family.split()
)

# What the saver of a SavedModel reads and writes checkpoints with: see `models.safety`.
OF_CHECKPOINTS: frozenset[str] = frozenset(
    ("MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename")
)
