//! Graph to plan: lowering, memory planning and execution.
