//! The schema's rules, evaluated as the API server does it. Every refusal is checked by the sentence that a person reads.

mod cluster;
mod group;
mod operation;

use serde_json::Value;

use super::*;

fn refusal(result: Result<(), kube::core::cel::ValidationErrors>) -> String {
    result.expect_err("the object must be refused").to_string()
}

#[test]
fn definitions_stay_small_enough_for_kubectl_apply() {
    for crd in custom_resource_definitions() {
        let bytes = serde_json::to_vec(&crd).unwrap().len();
        assert!(
            bytes < 64 * 1024,
            "{}: {bytes} bytes",
            crd.metadata.name.unwrap()
        );
    }
}

#[test]
fn every_field_is_documented() {
    fn walk(path: &str, schema: &Value, missing: &mut Vec<String>) {
        // Kubernetes' own types carry no descriptions here on purpose.
        if ["affinity", "tolerations"]
            .iter()
            .any(|foreign| path.ends_with(foreign))
        {
            return;
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if field["description"].as_str().is_none_or(str::is_empty) {
                missing.push(path.clone());
            }
            walk(&path, field, missing);
            walk(&path, &field["items"], missing);
            walk(&path, &field["additionalProperties"], missing);
        }
    }
    let mut missing = Vec::new();
    for crd in custom_resource_definitions() {
        let crd = serde_json::to_value(crd).unwrap();
        walk(
            "",
            &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
            &mut missing,
        );
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn words_of_reasons_and_conditions_are_those_in_the_object() {
    for type_ in ConditionType::ALL {
        assert_eq!(serde_json::to_value(type_).unwrap(), type_.as_str());
    }
    for phase in Phase::ALL {
        assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
    }
    for phase in [
        OperationPhase::Pending,
        OperationPhase::Running,
        OperationPhase::Succeeded,
        OperationPhase::Failed,
    ] {
        assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
    }
    for type_ in [
        OperationType::Switchover,
        OperationType::Restart,
        OperationType::ForceElect,
        OperationType::Rebuild,
    ] {
        assert_eq!(serde_json::to_value(type_).unwrap(), type_.as_str());
    }
    assert_eq!(
        serde_json::to_value(Reason::StandbysHoldNoData).unwrap(),
        Reason::StandbysHoldNoData.as_str()
    );
}
