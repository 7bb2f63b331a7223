typedef enum {
    StateEstimatorTypeAutoSelect = 0,
    StateEstimatorTypeComplementary,
    StateEstimatorTypeKalman
} StateEstimatorType;
StateEstimatorType stateEstimatorGetType(void);
