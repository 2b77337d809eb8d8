use super::list::{Format, View};
use super::*;

fn status(id: &str, replicas: u32, age_seconds: u64) -> Item<Row> {
    let (namespace, name) = id.split_once('/').unwrap();
    let max = if replicas > 9 { "null" } else { "9" };
    let body = format!(
        r#"[{{"id":"{id}","name":"{name}","namespace":"{namespace}","reference":"Deployment/{name}","targets":"7.5/7",
        "minPods":0,"maxPods":{max},"replicas":{replicas},"ageSeconds":{age_seconds},"ready":1,"mode":"stable",
        "inFlight":3,"queued":2,"reason":"stable 7.5 / (10 x 0.70) -> 2","somethingNewer":{{"secs":1,"nanos":0}}}}]"#
    );
    items(body.as_bytes()).unwrap().remove(0)
}

#[test]
fn the_columns_are_kubectls() {
    let both = vec![status("default/model", 2, 303), status("default/a-longer-name", 10, 7)];
    let narrow = View::new(None).all(both.clone()).unwrap();
    assert_eq!(
        narrow,
        "NAME            REFERENCE                  TARGETS   MINPODS   MAXPODS   REPLICAS   AGE\n\
         model           Deployment/model           7.5/7     0         9         2          5m3s\n\
         a-longer-name   Deployment/a-longer-name   7.5/7     0         <unset>   10         7s\n"
    );
    let wide = View::new(Some(Format::Wide)).all(both[..1].to_vec()).unwrap();
    assert_eq!(
        wide,
        "NAME    REFERENCE          TARGETS   MINPODS   MAXPODS   REPLICAS   AGE    READY   MODE     IN-FLIGHT   QUEUED   REASON\n\
         model   Deployment/model   7.5/7     0         9         2          5m3s   1       stable   3           2        stable 7.5 / (10 x 0.70) -> 2\n"
    );
    assert_eq!(View::<Row>::new(None).all(Vec::new()).unwrap(), "");
}

#[test]
fn a_second_namespace_gets_a_column() {
    let mut view = View::new(None);
    assert!(view.news(vec![status("default/a", 1, 0)]).unwrap().starts_with("NAME   REFERENCE"));
    let news = view.news(vec![status("default/a", 1, 1), status("shop/a", 1, 0)]).unwrap();
    assert_eq!(
        news,
        "NAMESPACE   NAME   REFERENCE      TARGETS   MINPODS   MAXPODS   REPLICAS   AGE\n\
         shop        a      Deployment/a   7.5/7     0         9         1          0s\n"
    );
    let news = view.news(vec![status("default/a", 2, 2), status("shop/a", 1, 1)]).unwrap();
    assert_eq!(news, "default     a      Deployment/a   7.5/7     0         9         2          2s\n");
}

#[test]
fn only_changes_are_news() {
    let mut view = View::new(Some(Format::Json));
    assert!(view.news(vec![status("default/a", 1, 0)]).unwrap().contains("\"ageSeconds\": 0"));
    assert_eq!(view.news(vec![status("default/a", 1, 1)]).unwrap(), "", "an age is no news");
    let news = view.news(vec![status("default/a", 1, 2), status("default/b", 1, 0)]).unwrap();
    assert!(news.contains("default/b") && !news.contains("default/a"), "{news}");
    assert_eq!(view.news(Vec::new()).unwrap(), "");
    assert!(!view.news(vec![status("default/b", 1, 0)]).unwrap().is_empty(), "it came back");
    let mut view = View::new(Some(Format::Yaml));
    let news = view.news(vec![status("default/a", 1, 0)]).unwrap();
    assert!(news.starts_with("---\nid: default/a\n") && news.ends_with("somethingNewer: 1.000s\n"), "{news}");
}

#[test]
fn names_are_looked_up_with_and_without_namespace() {
    let all = || vec![status("default/a", 1, 0), status("shop/a", 1, 0), status("shop/b", 1, 0)];
    let names = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        wanted(all(), &names).map(|found| found.into_iter().map(|status| status.row.id).collect::<Vec<_>>())
    };
    assert_eq!(names(&[]).unwrap().len(), 3);
    assert_eq!(names(&["a"]).unwrap(), ["default/a", "shop/a"]);
    assert_eq!(names(&["b", "default/a"]).unwrap(), ["default/a", "shop/b"]);
    let error = names(&["a", "c"]).unwrap_err().to_string();
    assert_eq!(error, "there is no service c; there is: default/a, shop/a, shop/b");
}
