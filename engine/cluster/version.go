package cluster

// EngineVersion covers everything that changes Step's result or D: rules, CUE, schema, Kubernetes'
// defaulting. It is raised when recorded logs would replay to other hashes.
const EngineVersion = 9 + ahead
